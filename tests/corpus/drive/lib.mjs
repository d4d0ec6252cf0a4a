// What the drivers share. Each is run as
//
//     node NAME.mjs NODE_MODULES MODULE.wasm
//
// and drives the bytes of MODULE.wasm, through the JavaScript of the package
// that the original came from, on fixed inputs; it prints what came out.

import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

if (process.argv.length !== 4) {
  console.error(`usage: node ${path.basename(process.argv[1])} NODE_MODULES MODULE.wasm`);
  process.exit(2);
}

// Real paths, so that packages find one another however the folder was named.
const nodeModules = fs.realpathSync(process.argv[2]);

export const modulePath = path.resolve(process.argv[3]);

export const bytes = fs.readFileSync(modulePath);

/** Loads a CommonJS file of a package. */
export const require = createRequire(path.join(nodeModules, 'index.cjs'));

/** The path of a file in a package. */
export const file = (...parts) => path.join(nodeModules, ...parts);

/** Loads a file of a package as an ES module. */
export const load = (...parts) => import(pathToFileURL(file(...parts)));

/** Prints one line of the transcript. */
export function report(name, value) {
  console.log(`${name}: ${typeof value === 'string' ? value : JSON.stringify(value)}`);
}

/** Prints the digest of an output too long to print. */
export function reportDigest(name, output) {
  const digest = createHash('sha256').update(output).digest('hex');
  report(name, `${output.length} sha256:${digest}`);
}

/** Has `bytes` read in place of a file that a package's own code reads. */
export function substitute(original) {
  const { readFileSync } = fs;
  let reads = 0;
  fs.readFileSync = (name, ...rest) => {
    if (name !== original) return readFileSync(name, ...rest);
    reads += 1;
    return Buffer.from(bytes);
  };
  // Without this, a package that reads another file would be tested unchanged.
  process.on('exit', () => {
    if (reads === 0) throw new Error(`${original} was never read`);
  });
}

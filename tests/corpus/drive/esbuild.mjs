// A JavaScript bundler, built by the Go compiler.

import { spawnSync } from 'node:child_process';

import { file, modulePath, report } from './lib.mjs';

const source = `
  import type { Unused } from './unused';
  const enum Level { Low = 1, High = Low << 4 }
  interface Point { x: number; y?: number }
  export async function main({ x, y = 2 }: Point, ...rest: readonly string[]) {
    const view = <section id="top">{rest.map((it) => <b key={it}>{it ?? 'none'}</b>)}</section>;
    for await (const part of rest) if (part?.length! > Level.High) return { view, x, y };
    return x ** y;
  }
`;

/** Runs the module through the Go project's own launcher for Node. */
function esbuild(expected, input, ...options) {
  const args = [file('esbuild-wasm', 'wasm_exec_node.js'), modulePath, ...options];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    input,
    encoding: 'utf8',
    // Go refuses to start with a large environment.
    env: {},
  });
  if (status !== expected) throw new Error(`exit ${status}: ${stderr}`);
  report(options.join(' '), `\n${stdout}${stderr}`);
}

esbuild(0, '', '--version');
esbuild(0, source, '--loader=tsx', '--jsx=automatic');
esbuild(0, source, '--loader=tsx', '--minify', '--target=es2017');
esbuild(0, 'a { color: #ff0000; & b { margin: 0px 0px } }', '--loader=css', '--minify', '--target=chrome80');
esbuild(1, 'let = ;', '--loader=js', '--color=false');

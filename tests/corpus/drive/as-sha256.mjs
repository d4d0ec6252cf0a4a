// SHA-256, AssemblyScript with SIMD.

import { bytes, load, report } from './lib.mjs';

// The package carries its bytes inside its code, so they are replaced where they are compiled.
const { Module } = WebAssembly;
let compiled = 0;
WebAssembly.Module = class extends Module {
  constructor() {
    super(bytes);
    compiled += 1;
  }
};

const { SHA256, batchHash4UintArray64s, digest, simdEnabled } = await load(
  '@chainsafe', 'as-sha256', 'lib', 'index.js',
);
if (compiled === 0) throw new Error('the module was never compiled');

const hex = (output) => Buffer.from(output).toString('hex');
const input = (length) => Uint8Array.from({ length }, (_, i) => (i * 31 + length) & 0xff);

report('simd', simdEnabled);
for (const length of [0, 1, 55, 56, 64, 65, 511]) {
  report(`digest ${length}`, hex(digest(input(length))));
}
const hash = new SHA256().init();
for (let i = 0; i < 20; i += 1) hash.update(input(i * 100));
report('stream', hex(hash.final()));
report('batch', batchHash4UintArray64s([1, 2, 3, 4].map((i) => input(64).map((b) => b ^ i))).map(hex));

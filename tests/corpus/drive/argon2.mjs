// Password hashing, Rust built by napi-rs for wasm32-wasip1-threads: shared memory, atomics.

import { file, report, require, substitute } from './lib.mjs';

const name = '@node-rs/argon2-wasm32-wasi';
substitute(file(name, 'argon2.wasm32-wasi.wasm'));
const { hashRawSync, hashSync, verifySync } = require(name);

const salt = Buffer.from('0123456789abcdef');
for (const algorithm of [0, 1, 2]) {
  const options = { algorithm, salt, memoryCost: 1024, timeCost: 2, parallelism: 1 };
  report(`hash ${algorithm}`, hashSync('correct horse', options));
  report(`raw ${algorithm}`, hashRawSync('battery staple', options).toString('hex'));
}
const hashed = hashSync('secret', { salt, memoryCost: 512, timeCost: 1 });
report('verify', [verifySync(hashed, 'secret'), verifySync(hashed, 'guess')]);

// A JavaScript and TypeScript parser, Rust built by napi-rs for wasm32-wasip1-threads.

import { file, report, reportDigest, require, substitute } from './lib.mjs';

const name = '@oxc-parser/binding-wasm32-wasi';
substitute(file(name, 'parser.wasm32-wasi.wasm'));
const { parseSync } = require(name);

const sources = {
  'module.ts': `
    import { type A, b as c } from './d.js';
    export default class Box<T extends A = A> implements Iterable<T> {
      #items: T[] = [];
      static { console.log(\`\${c?.name ?? 'none'}\`); }
      async *[Symbol.asyncIterator](): AsyncGenerator<T> { for await (const it of this.#items) yield it; }
    }
    enum Colour { Red = 1 << 2, Green = /a+(?<n>b)/giu.test('') ? 1 : 0 }
    label: for (let i = 0n; i < 10n; i++) { if (i % 2n) continue label; }`,
  'view.jsx': 'const view = <Box key="1" {...rest}>{items.map((it) => <p>{it} &amp; more</p>)}</Box>;',
  'broken.js': 'function ( { return 1; \n const = ;',
};
for (const [path, source] of Object.entries(sources)) {
  const result = parseSync(path, source);
  reportDigest(`${path} program`, result.program);
  report(`${path} comments`, result.comments);
  report(`${path} errors`, result.errors);
}

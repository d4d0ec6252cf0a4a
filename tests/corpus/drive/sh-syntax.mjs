// A shell parser and formatter, Go built by TinyGo.

import { bytes, load, report, reportDigest } from './lib.mjs';

await load('sh-syntax', 'lib', 'shim.js');
await load('sh-syntax', 'vendors', 'wasm_exec.cjs');
const { getProcessor } = await load('sh-syntax', 'lib', 'processor.js');
const process = getProcessor(async () => bytes);

const script = `#!/bin/bash
if [ -f "$1" ];then echo   "found $1"  # a comment
else for x in a b   "c d";do printf '%s\\n' "\${x:-none}" >>out.txt 2>&1;done;fi
f(){ local n=$(( $#*2 ));case $n in 0) return;; *)cat <<EOF
n is $n
EOF
;;esac;}
diff <(sort a) <(sort b)|grep -v '^>'&&f "$@"||exit 1
`;

const options = { filepath: 'script.sh' };
report('formatted', `\n${await process(script, { ...options, print: true })}`);
report('minified', `\n${await process(script, { ...options, print: true, minify: true })}`);
reportDigest('tree', JSON.stringify(await process(script, options)));
try {
  await process('if true; then echo $(', options);
} catch (error) {
  report('error', `${error.name} ${error.message}`);
}

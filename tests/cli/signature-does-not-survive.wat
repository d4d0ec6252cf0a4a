;; RUN: shrink % -o out.wasm
;; RUN: inspect out.wasm
;; STDERR: warning[signature-dropped]
;; STDOUT: signature  none
(module
  (@custom "signature" (before first) "\01\01\01\00")
  (func $named (export "f") (result i32) i32.const 1 i32.const 2 i32.add))

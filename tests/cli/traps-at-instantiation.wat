;; RUN: build %
;; RUN: inspect target/edgepack/case.wasm
;; STDERR: warning[traps-at-instantiation]: case: the module traps when it is instantiated: a data segment lies outside its memory
;; STDOUT: memory
;; STDOUT: data
(module
  (memory 1)
  (data (i32.const 65536) "x")
  (func $named (export "f") (result i32) i32.const 1))

;; RUN: check %
;; STDERR: proposals  bulk-memory, multi-value, sign-extension, simd, tail-call
(module
  (memory 1)
  (func $pair (result i32 i32) i32.const 1 i32.const 2)
  (func (export "f") (param i32) (result i32)
    (memory.fill (i32.const 0) (i32.const 0) (i32.const 8))
    (drop (v128.const i32x4 1 2 3 4))
    (drop (drop (call $pair)))
    (i32.extend8_s (local.get 0))
    (return_call $g))
  (func $g (param i32) (result i32) (local.get 0)))

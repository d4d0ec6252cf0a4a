;; RUN: build % -v
;; RUN: check target/edgepack/case.wasm
;; STDERR: proposals  none
;; NOT: sign-extension
;; NOT: optimizer-
(module
  (func (export "f") (param i32) (result i32)
    ;; What Binaryen would turn into i32.extend8_s, were it allowed.
    (i32.shr_s (i32.shl (local.get 0) (i32.const 24)) (i32.const 24)))
  (memory (export "m") 1)
  (data (i32.const 0) "some data"))

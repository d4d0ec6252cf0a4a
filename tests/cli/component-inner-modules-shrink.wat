;; RUN: build %
;; RUN: inspect target/edgepack/case.wasm
;; STDOUT: export
;; NOT: custom `name`
;; NOT: custom `component-name`
;; NOT: optimizer-
(component $outer
  (core module $m
    (func $unused (result i32) i32.const 1)
    (func $f (export "f") (result i32) i32.const 20 i32.const 22 i32.add))
  (component $inner
    (core module $n
      (func $unused (result i32) i32.const 1)
      (func $g (export "g") (result i32) i32.const 20 i32.const 22 i32.add))
    (core instance $j (instantiate $n))
    (func (export "g") (result u32) (canon lift (core func $j "g"))))
  (instance $k (instantiate $inner))
  (core instance $i (instantiate $m))
  (func (export "f") (result u32) (canon lift (core func $i "f")))
  (export "k" (instance $k)))

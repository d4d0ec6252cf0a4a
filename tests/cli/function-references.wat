;; RUN: build %
;; RUN: check target/edgepack/case.wasm
;; STDERR: proposals  bulk-memory, function-references, reference-types
;; NOT: optimizer-rejected
(module
  (type $t (func (result i32)))
  (global $g (mut (ref null $t)) (ref.null $t))
  (elem declare func $f)
  (func $f (type $t) i32.const 42)
  (func (export "set") (global.set $g (ref.func $f)))
  (func (export "call") (result i32) (call_ref $t (global.get $g))))

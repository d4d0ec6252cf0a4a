;; RUN: shrink % -o out.wasm
;; RUN: inspect out.wasm
;; STDOUT: custom `producers`
;; STDOUT: custom `.dep-v0`
;; STDOUT: custom `component-type:demo`
;; STDOUT: custom `dylink.0`
;; STDERR: note[sections-dropped]: case: dropped custom sections: `mine` (2 bytes)
;; STDERR: hint: if your host reads one of them, name it in shrink.keep-sections
;; NOT: custom `name`
;; NOT: custom `.debug_info`
;; NOT: custom `mine`
(module
  (@custom "dylink.0" (before first) "\01\04\00\00\00\00")
  (@custom "producers" "\00")
  (@custom ".dep-v0" "x")
  (@custom "component-type:demo" "x")
  (@custom ".debug_info" "x")
  (@custom "mine" "xy")
  (func $named (export "f") (result i32) i32.const 1 i32.const 2 i32.add))

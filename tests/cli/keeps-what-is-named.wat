;; RUN: shrink % -o out.wasm --keep-section mine --keep-section other*
;; RUN: inspect out.wasm
;; STDOUT: custom `mine`
;; STDOUT: custom `other-1`
;; NOT: custom `.dep-v0`
(module
  (@custom ".dep-v0" "x")
  (@custom "mine" "xy")
  (@custom "other-1" "xy")
  (func (export "f")))

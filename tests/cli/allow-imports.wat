;; RUN: check % --allow-import wasi_snapshot_preview1.*
;; EXIT: 3
;; STDERR: error[import-not-allowed]: case.wasm: the import `env.log` is not allowed
;; STDERR: the import `env.memory` is not allowed
;; STDERR: hint: remove what needs it
;; NOT: `wasi_snapshot_preview1.fd_write` is not allowed
(module
  (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
  (import "env" "log" (func))
  (import "env" "memory" (memory 1)))

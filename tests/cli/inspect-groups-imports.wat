;; RUN: inspect %
;; STDOUT: core module
;; STDOUT:   clocks
;; STDOUT:   environment
;; STDOUT:   files
;; STDOUT:   host functions
;; STDOUT:   sockets
;; STDOUT: signature  there is one
(module
  (@custom "signature" "\01\01\01\00")
  (import "wasi_snapshot_preview1" "path_open" (func))
  (import "wasi_snapshot_preview1" "clock_time_get" (func))
  (import "wasi_snapshot_preview1" "environ_get" (func))
  (import "wasi_snapshot_preview1" "sock_send" (func))
  (import "env" "my_host_function" (func)))

;; RUN: check % --allow-import wasi:cli/*
;; EXIT: 3
;; STDERR: import     wasi:cli/environment@0.2.6
;; STDERR: the import `wasi:sockets/network@0.2.6` is not allowed
;; STDERR: "wasi:sockets/network"
;; STDERR: export     acme:demo/run@1.0.0
;; NOT: `wasi:cli/environment@0.2.6` is not allowed
(component
  (import "wasi:cli/environment@0.2.6" (instance $e))
  (import "wasi:sockets/network@0.2.6" (instance $n))
  (export "acme:demo/run@1.0.0" (instance $e)))

;; RUN: build % --budget-raw 8 --allow-import other.*
;; EXIT: 3
;; STDERR: error[budget-raw]
;; STDERR: error[import-not-allowed]
;; NOT: digest
(module (import "env" "log" (func $log)) (func (export "f") (call $log)))

;; RUN: build % --allow-import other.*
;; STDERR: digest
;; NOT: import-not-allowed
(module (import "env" "log" (func $log)) (func (export "f")))

;; RUN: check % --allow-import=
;; EXIT: 3
;; STDERR: the import `env.log` is not allowed
(module (import "env" "log" (func)))

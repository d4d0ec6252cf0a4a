;; RUN: check % --allow-import env.log --allow-import other.*
;; STDERR: ok case.wasm
(module (import "env" "log" (func)) (import "other" "thing" (func)))

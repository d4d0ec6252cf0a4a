;; RUN: check % --budget-raw 8 --budget-gzip 9
;; EXIT: 4
;; STDERR: error[budget-raw]: case.wasm: 
;; STDERR: exceed budget.raw = 8 bytes (8 B) by 
;; STDERR: error[budget-gzip]: case.wasm: 
(module (func (export "f")))

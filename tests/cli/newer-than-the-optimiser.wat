;; RUN: build %
;; STDERR: warning[optimizer-unreadable]: case: the optimiser cannot read the module
;; STDERR: digest
(module
  (@custom "name-it-not" "x")
  (func $named (export "f") (param i64 i64 i64 i64) (result i64 i64)
    (i64.add128 (local.get 0) (local.get 1) (local.get 2) (local.get 3))))

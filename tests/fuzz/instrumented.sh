#!/bin/sh
# A wrapper for rustc: the fuzzer's coverage counters go into our own crates and not into what they stand on.
# Counters in polars would make each run several times as long and lead the fuzzer away from our code.
rustc=$1
shift
case " $* " in
  *' --crate-name tapedeck '* | *' --crate-name header '* | *' --crate-name payload '* | *' --crate-name file '* | \
    *' --crate-name identity '* | *' --crate-name report '*)
    exec "$rustc" "$@" --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
      -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
      -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 ;;
  *) exec "$rustc" "$@" ;;
esac

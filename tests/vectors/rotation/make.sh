#!/bin/sh
# How the files here were made: a checkpoint during a change of keys, with both signature lines, by
# openssl and coreutils alone. Run in an empty folder; the keys are new each time.
set -eu
name=example.org/custody
printf '%s\n%s\n%s\n' "$name" 7 "$(printf 'a root' | sha256sum | cut -c 1-64 | xxd -r -p | base64 -w 0)" >body.txt
{ cat body.txt; echo; } >checkpoint.txt
for which in old new; do
    openssl genpkey -algorithm ed25519 -out key.pem
    # The last 32 bytes of the DER of an Ed25519 public key are the key (RFC 8410).
    openssl pkey -in key.pem -pubout -outform DER | tail -c 32 >public_key.raw
    key_id=$({ printf '%s\n\001' "$name"; cat public_key.raw; } | sha256sum | cut -c 1-8)
    printf '%s+%s+%s\n' "$name" "$key_id" "$({ printf '\001'; cat public_key.raw; } | base64 -w 0)" >"$which.txt"
    openssl pkeyutl -sign -inkey key.pem -rawin -in body.txt -out body.sig
    line=$({ printf %s "$key_id" | xxd -r -p; cat body.sig; } | base64 -w 0)
    printf '\342\200\224 %s %s\n' "$name" "$line" >>checkpoint.txt
done
rm key.pem public_key.raw body.txt body.sig

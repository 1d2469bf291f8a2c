#!/bin/sh
# How the files here were made: by openssl and coreutils alone, so that they share no code with
# the service. Run in an empty folder; it makes a new key, so the results differ from run to run.
set -eu
name=example.org/custody
openssl genpkey -algorithm ed25519 -out key.pem
openssl pkey -in key.pem -pubout -out public_key.pem
# The last 32 bytes of the DER of an Ed25519 public key are the key (RFC 8410).
openssl pkey -in key.pem -pubout -outform DER | tail -c 32 >public_key.raw
key_id=$({ printf '%s\n\001' "$name"; cat public_key.raw; } | sha256sum | cut -c 1-8)
printf '%s+%s+%s\n' "$name" "$key_id" "$({ printf '\001'; cat public_key.raw; } | base64 -w 0)" >verifier_key.txt
sha=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
printf '%s' '{"clip_id":"0199c0de-5f0a-7b7c-8d1e-2f3a4b5c6d7e","clip_seq":3,"facts":{"announced_at":"2026-11-21T22:40:00.000000Z","bucket":"evidence","clip_id":"0199c0de-5f0a-7b7c-8d1e-2f3a4b5c6d7e","device_serial":"BWC-004217","object_key":"clips/0199c0de-5f0a-7b7c-8d1e-2f3a4b5c6d7e","object_version":null,"recording_id":"20261121-2214-0031","sealed_at":"2026-11-21T22:41:00.000000Z","secured_at":"2026-11-21T22:41:05.000000Z","segment_no":0,"sha256":"'$sha'","sha256_readback":"'$sha'","size_bytes":209715200},"type":"clip.secured"}' >leaf.json
{ printf 'ingest release receipt v1\n'; cat leaf.json; } >message.bin
openssl pkeyutl -sign -inkey key.pem -rawin -in message.bin | base64 -w 0 >signature.txt
rm key.pem message.bin public_key.raw

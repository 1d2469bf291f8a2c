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

# A log of seven leaves, the receipt's with index 5, by RFC 6962's definition of the tree.
leaf() { { printf '\000'; cat; } | sha256sum | cut -c 1-64; }
node() { { printf '\001'; printf '%s%s' "$1" "$2" | xxd -r -p; } | sha256sum | cut -c 1-64; }
in_base64() { xxd -r -p | base64 -w 0; echo; }
for index in 0 1 2 3 4 6; do
    eval "h$index=$(printf '{"leaf":%s}' "$index" | leaf)"
done
h5=$(leaf <leaf.json)
h01=$(node "$h0" "$h1")
h0123=$(node "$h01" "$(node "$h2" "$h3")")
h456=$(node "$(node "$h4" "$h5")" "$h6")
checkpoint() {
    printf '%s\n%s\n%s\n' "$name" "$1" "$(printf %s "$2" | in_base64)" >body.txt
    openssl pkeyutl -sign -inkey key.pem -rawin -in body.txt -out body.sig
    line=$({ printf %s "$key_id" | xxd -r -p; cat body.sig; } | base64 -w 0)
    { cat body.txt; printf '\n\342\200\224 %s %s\n' "$name" "$line"; } >"checkpoint-$1.txt"
}
checkpoint 3 "$(node "$h01" "$h2")"
checkpoint 7 "$(node "$h0123" "$h456")"
for hash in "$h2" "$h3" "$h01" "$h456"; do printf %s "$hash" | in_base64; done >consistency-3-7.txt
{
    printf 'c2sp.org/tlog-proof@v1\nindex 5\n'
    for hash in "$h4" "$h6" "$h0123"; do printf %s "$hash" | in_base64; done
    echo
    cat checkpoint-7.txt
} >receipt.tlog-proof
{ cat leaf.json; echo; cat receipt.tlog-proof; } >receipt.txt
# A witness's cosignature of the same checkpoint: 8 bytes of time, then Ed25519 over three parts.
witness=witness.example.org
openssl genpkey -algorithm ed25519 -out witness.pem
openssl pkey -in witness.pem -pubout -outform DER | tail -c 32 >witness.raw
witness_id=$({ printf '%s\n\004' "$witness"; cat witness.raw; } | sha256sum | cut -c 1-8)
printf '%s+%s+%s\n' "$witness" "$witness_id" "$({ printf '\004'; cat witness.raw; } | base64 -w 0)" >witness_key.txt
time=1795300000
{ printf 'cosignature/v1\ntime %s\n' "$time"; cat body.txt; } >cosigned.bin
openssl pkeyutl -sign -inkey witness.pem -rawin -in cosigned.bin -out cosigned.sig
line=$({ printf '%s%016x' "$witness_id" "$time" | xxd -r -p; cat cosigned.sig; } | base64 -w 0)
{ cat checkpoint-7.txt; printf '\342\200\224 %s %s\n' "$witness" "$line"; } >cosigned-7.txt
{ sed '/^$/q' receipt.txt; cat cosigned-7.txt; } >receipt-cosigned.txt
rm witness.pem witness.raw cosigned.bin cosigned.sig
rm key.pem message.bin public_key.raw body.txt body.sig

// tus-js-client, told by a JSON object in its first argument; see the tests that run it.
import { Buffer } from 'node:buffer'
import { openSync, readFileSync } from 'node:fs'
import process from 'node:process'
import * as tus from 'tus-js-client'

const order = JSON.parse(process.argv[2])
// A parallel upload is cut from a buffer: slices of one file stream would share its position.
const file = readFileSync(openSync(order.file))
const options = {
  endpoint: order.endpoint,
  uploadUrl: order.upload_url,
  headers: { Authorization: `Bearer ${order.token}` },
  metadata: order.metadata,
  chunkSize: order.chunk_bytes ?? Number.POSITIVE_INFINITY,
  parallelUploads: order.parallel ?? 1,
  protocol: order.protocol ?? 'tus-v1',
  uploadDataDuringCreation: order.with_creation ?? false,
  // As many as a restart of the service may take; they begin anew after every progress.
  retryDelays: [100, 200, 400, 800, 1600, 3200, 3200],
  storeFingerprintForResuming: false,
}

await new Promise((resolve, reject) => {
  let isEnding = false
  const upload = new tus.Upload(Buffer.from(file), {
    ...options,
    onChunkComplete: async (_, accepted) => {
      if (order.terminate && accepted > 0 && !isEnding) {
        isEnding = true
        await upload.abort(true)
        resolve()
      }
    },
    onSuccess: resolve,
    onError: reject,
  })
  upload.start()
})

// @tus/server with its S3 store, as its README sets it up.
//   node server.mjs PORT PART_BYTES; the store comes from S3_ENDPOINT, S3_BUCKET, AWS_*
import { S3Store } from "@tus/s3-store";
import { Server } from "@tus/server";

const [port, partBytes] = process.argv.slice(2).map(Number);
const datastore = new S3Store({
  partSize: partBytes,
  // Equal parts, and no tags: nothing here expires.
  minPartSize: partBytes,
  useTags: false,
  s3ClientConfig: {
    bucket: process.env.S3_BUCKET,
    endpoint: process.env.S3_ENDPOINT,
    region: process.env.AWS_REGION,
    forcePathStyle: true,
    // The cheaper way, and the one that every S3-compatible store takes.
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    credentials: {
      accessKeyId: process.env.AWS_ACCESS_KEY_ID,
      secretAccessKey: process.env.AWS_SECRET_ACCESS_KEY,
    },
  },
});
new Server({ path: "/files", datastore }).listen({ host: "127.0.0.1", port });

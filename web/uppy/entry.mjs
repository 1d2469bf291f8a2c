// All of Uppy that the page /upload uses; `make page` bundles it.
export { Uppy } from '@uppy/core'
export { RateLimitedQueue } from '@uppy/core/utils'
export { default as Tus } from '@uppy/tus'

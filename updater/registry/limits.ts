// How long and how often: every bound on a registry's behaviour that is time or number of attempts.
//
// A pull has no time limit of its own (images are large and networks slow); what is bounded is
// standing still. Tests pass smaller numbers.

export interface RegistryLimits {
  readonly connectTimeoutMs: number;
  /** From the request to the end of the response's headers. Pull-through caches fetch first. */
  readonly headersTimeoutMs: number;
  /** Without a single byte of a body, while somebody waits for it. */
  readonly idleTimeoutMs: number;
  /** Slower than `minRateBytesPerSecond` over this much time spent waiting is a failure. */
  readonly rateWindowMs: number;
  readonly minRateBytesPerSecond: number;
  /** Rounds over all endpoints for one request. */
  readonly attempts: number;
  /** Before the second round; doubles each time. */
  readonly backoffMs: number;
  /** Most that one request waits for its turns, Retry-After included. */
  readonly maxWaitMs: number;
}

export const REGISTRY_LIMITS: RegistryLimits = {
  connectTimeoutMs: 15_000,
  headersTimeoutMs: 60_000,
  idleTimeoutMs: 60_000,
  rateWindowMs: 60_000,
  minRateBytesPerSecond: 512,
  attempts: 5,
  backoffMs: 500,
  maxWaitMs: 300_000,
};

export const MAX_REDIRECTS = 8;
export const MAX_HEADER_BYTES = 64 << 10;
/** Error documents and tokens. */
export const MAX_SMALL_BODY_BYTES = 64 << 10;

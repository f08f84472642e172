// The hash behind the tables of xattrs and digests.

/** Never reaches the image: what is numbered by these tables is numbered by its first use. */
const SEED = (Math.random() * 0x1_0000_0000) | 0;

/**
 * MurmurHash3 (32 bits) of `words[first..last]`, with a seed of this process. Values are often alike but
 * for a few bits, and may come from somebody who wishes us ill: a weaker mix makes the table a list, and
 * the time square.
 */
export function hashWords(words: Int32Array, first: number, last: number): number {
  let hash = SEED;
  for (let i = first; i < last; i++) {
    let mixed = Math.imul(words[i]!, 0xcc9e2d51);
    mixed = Math.imul((mixed << 15) | (mixed >>> 17), 0x1b873593);
    const joined = hash ^ mixed;
    hash = (Math.imul((joined << 13) | (joined >>> 19), 5) + 0xe6546b64) | 0;
  }
  hash ^= last - first;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}

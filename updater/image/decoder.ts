// gzip and zstd decoding into memory of the caller, without a thread and without a stream.
//
// node:zlib's streams allocate memory for all they produce, most of which the system has to clear, and
// wake another thread for every piece: for zstd that doubles the time. So this uses the native object
// behind a stream, whose synchronous `writeSync` is Node's way as well (lib/zlib.js, processChunkSync).
// It is not documented; Bun is built in (scripts/build.ts), and decompression.test.ts is its contract.

import { createGunzip, createZstdDecompress, constants as zlib } from "node:zlib";

/** What is kept of the output to refer back to; 128 MiB, zstd's own limit without `--memory`. */
const MAX_WINDOW_LOG = 27;

export interface DecodeStep {
  readonly consumedBytes: number;
  /** At the start of the output. */
  readonly producedBytes: number;
}

export interface Decoder extends Disposable {
  /** What follows is not part of the data. */
  readonly isAtEnd: boolean;
  /** The data is bad: `decode` or `finish` has thrown. */
  readonly hasFailed: boolean;
  decode(input: Uint8Array, output: Uint8Array): DecodeStep;
  /** After the last input, until it gives 0 bytes; throws when a gzip stream is cut short. */
  finish(output: Uint8Array): number;
}

/** The part of the native object, and of the stream around it, that is used. */
interface NativeStream {
  readonly _handle: {
    onerror: (message: string, errno: number, code: string) => void;
    writeSync(
      flush: number,
      input: Uint8Array,
      inputOffset: number,
      inputBytes: number,
      output: Uint8Array,
      outputOffset: number,
      outputBytes: number,
    ): void;
  };
  /** Bytes of output and of input that the last write left over. */
  readonly _writeState: Uint32Array;
  close(): void;
}

const NOTHING = new Uint8Array(0);

export function createDecoder(compression: "gzip" | "zstd"): Decoder {
  const isGzip = compression === "gzip";
  const params = { [zlib.ZSTD_d_windowLogMax]: MAX_WINDOW_LOG };
  const stream = (isGzip
    ? createGunzip()
    : createZstdDecompress({ params })) as unknown as NativeStream;
  const flags = isGzip
    ? { more: zlib.Z_NO_FLUSH, last: zlib.Z_FINISH }
    : { more: zlib.ZSTD_e_continue, last: zlib.ZSTD_e_end };
  return new StreamDecoder(stream, flags);
}

class StreamDecoder implements Decoder {
  readonly #stream: NativeStream;
  readonly #flags: { readonly more: number; readonly last: number };
  #failure: Error | null = null;
  #isAtEnd = false;

  constructor(stream: NativeStream, flags: { readonly more: number; readonly last: number }) {
    this.#stream = stream;
    this.#flags = flags;
    stream._handle.onerror = (message, errno, code) => {
      this.#failure = Object.assign(new Error(message), { errno, code });
    };
  }

  get isAtEnd(): boolean {
    return this.#isAtEnd;
  }

  get hasFailed(): boolean {
    return this.#failure !== null;
  }

  decode(input: Uint8Array, output: Uint8Array): DecodeStep {
    const [freeBytes, leftBytes] = this.#write(this.#flags.more, input, output);
    // Room on both sides: it does not want what is left.
    this.#isAtEnd = freeBytes > 0 && leftBytes > 0;
    return { consumedBytes: input.length - leftBytes, producedBytes: output.length - freeBytes };
  }

  finish(output: Uint8Array): number {
    if (this.#isAtEnd) return 0;
    const [freeBytes] = this.#write(this.#flags.last, NOTHING, output);
    return output.length - freeBytes;
  }

  #write(flush: number, input: Uint8Array, output: Uint8Array): readonly [number, number] {
    const { _handle, _writeState } = this.#stream;
    _handle.writeSync(flush, input, 0, input.length, output, 0, output.length);
    if (this.#failure !== null) throw this.#failure;
    return [_writeState[0]!, _writeState[1]!];
  }

  [Symbol.dispose](): void {
    this.#stream.close();
  }
}

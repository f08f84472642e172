// Memory that a layer's reader shares with the thread that decompresses it (decode-worker.ts): a ring of
// compressed bytes one way, a ring of slots with unpacked ones the other way. One writer and one reader each.
//
// Counters only grow and wrap around at 2^32; each is changed by one side. Whoever changes anything counts it in
// the event word of his side, on which the other waits: with the value from before he looked at the rest.

const INPUT_BYTES = 2 << 20;
const SLOTS = 8;
const SLOT_BYTES = 1 << 18;

// Words of `control`.
const GIVEN = 0;
const CONSUMED = 1;
const FILLED = 2;
const TAKEN = 3;
const INPUT_ENDED = 4;
const STATE = 5;
const READER_EVENTS = 6;
const DECODER_EVENTS = 7;
const SIZES = 8;
const CONTROL_WORDS = SIZES + SLOTS;

const RUNNING = 0;
const FINISHED = 1;
const FAILED = 2;
const CLOSED = 3;

const INPUT_AT = 4096;
const OUTPUT_AT = INPUT_AT + INPUT_BYTES;

export interface DecodeQueue {
  readonly memory: SharedArrayBuffer;
  readonly control: Int32Array;
  readonly input: Uint8Array;
  readonly output: Uint8Array;
}

export function createDecodeQueue(): DecodeQueue {
  return openDecodeQueue(new SharedArrayBuffer(OUTPUT_AT + SLOTS * SLOT_BYTES));
}

export function openDecodeQueue(memory: SharedArrayBuffer): DecodeQueue {
  return {
    memory,
    control: new Int32Array(memory, 0, CONTROL_WORDS),
    input: new Uint8Array(memory, INPUT_AT, INPUT_BYTES),
    output: new Uint8Array(memory, OUTPUT_AT, SLOTS * SLOT_BYTES),
  };
}

function tell({ control }: DecodeQueue, events: number): void {
  Atomics.add(control, events, 1);
  Atomics.notify(control, events);
}

// The reader's side.

/** Copies as much of `bytes` as there is room for; returns how much that was. */
export function giveInput(queue: DecodeQueue, bytes: Uint8Array): number {
  const { control, input } = queue;
  const given = Atomics.load(control, GIVEN);
  const room = INPUT_BYTES - ((given - Atomics.load(control, CONSUMED)) | 0);
  const count = Math.min(room, bytes.length);
  const start = (given >>> 0) % INPUT_BYTES;
  const first = Math.min(count, INPUT_BYTES - start);
  input.set(bytes.subarray(0, first), start);
  input.set(bytes.subarray(first, count), 0);
  Atomics.add(control, GIVEN, count);
  if (count > 0) tell(queue, READER_EVENTS);
  return count;
}

/** There will be no more input. */
export function endInput(queue: DecodeQueue): void {
  Atomics.store(queue.control, INPUT_ENDED, 1);
  tell(queue, READER_EVENTS);
}

/** The oldest slot that is filled, or null when none is. It is the reader's until `releaseOutput`. */
export function takeOutput({ control, output }: DecodeQueue): Uint8Array | null {
  const taken = Atomics.load(control, TAKEN);
  if (taken === Atomics.load(control, FILLED)) return null;
  const slot = (taken >>> 0) % SLOTS;
  return output.subarray(slot * SLOT_BYTES, slot * SLOT_BYTES + control[SIZES + slot]!);
}

export function releaseOutput(queue: DecodeQueue): void {
  Atomics.add(queue.control, TAKEN, 1);
  tell(queue, READER_EVENTS);
}

/** Of the decoder: whether more output may come, has come to its end, or never will because of bad data. */
export function decoderState({ control }: DecodeQueue): "running" | "finished" | "failed" {
  const state = Atomics.load(control, STATE);
  return state === FAILED ? "failed" : state === FINISHED ? "finished" : "running";
}

/** To be taken before looking at anything else. */
export function countDecoderEvents({ control }: DecodeQueue): number {
  return Atomics.load(control, DECODER_EVENTS);
}

/** Waits, without holding this thread up, until something has happened since the count was taken. */
export async function awaitDecoder({ control }: DecodeQueue, events: number): Promise<void> {
  await Atomics.waitAsync(control, DECODER_EVENTS, events).value;
}

/** Lets the other thread go home. */
export function closeDecodeQueue(queue: DecodeQueue): void {
  Atomics.store(queue.control, STATE, CLOSED);
  tell(queue, READER_EVENTS);
}

// The decoder's side.

/** Bytes that lie together; null at the end of the input, and when the queue was closed. */
export function awaitInput({ control, input }: DecodeQueue): Uint8Array | null {
  for (;;) {
    const events = Atomics.load(control, READER_EVENTS);
    const hasEnded = Atomics.load(control, INPUT_ENDED) === 1;
    const given = Atomics.load(control, GIVEN);
    if (Atomics.load(control, STATE) === CLOSED) return null;
    const consumed = Atomics.load(control, CONSUMED);
    const count = (given - consumed) | 0;
    if (count > 0) {
      const start = (consumed >>> 0) % INPUT_BYTES;
      return input.subarray(start, Math.min(start + count, INPUT_BYTES));
    }
    if (hasEnded) return null;
    Atomics.wait(control, READER_EVENTS, events);
  }
}

export function releaseInput(queue: DecodeQueue, count: number): void {
  Atomics.add(queue.control, CONSUMED, count);
  tell(queue, DECODER_EVENTS);
}

/** A slot to fill, or null when the queue was closed. */
export function awaitSlot({ control, output }: DecodeQueue): Uint8Array | null {
  for (;;) {
    const events = Atomics.load(control, READER_EVENTS);
    if (Atomics.load(control, STATE) === CLOSED) return null;
    const taken = Atomics.load(control, TAKEN);
    const filled = Atomics.load(control, FILLED);
    if (((filled - taken) | 0) < SLOTS) {
      const slot = (filled >>> 0) % SLOTS;
      return output.subarray(slot * SLOT_BYTES, (slot + 1) * SLOT_BYTES);
    }
    Atomics.wait(control, READER_EVENTS, events);
  }
}

export function fillSlot(queue: DecodeQueue, sizeBytes: number): void {
  const { control } = queue;
  control[SIZES + ((Atomics.load(control, FILLED) >>> 0) % SLOTS)] = sizeBytes;
  Atomics.add(control, FILLED, 1);
  tell(queue, DECODER_EVENTS);
}

export function endOutput(queue: DecodeQueue, isGood: boolean): void {
  Atomics.compareExchange(queue.control, STATE, RUNNING, isGood ? FINISHED : FAILED);
  tell(queue, DECODER_EVENTS);
}

import { expect, test } from "vitest";
import { chooseRequest, type LayerState } from "./download-schedule.ts";

const MiB = 1 << 20;
const state = (sizeMiB: number, more: Partial<LayerState> = {}): LayerState => ({
  sizeBytes: sizeMiB * MiB,
  kept: [],
  assigned: [],
  connections: 0,
  ...more,
});
const range = (from: number, to: number) => ({ startByte: from * MiB, endByte: to * MiB });

test("the layer with the fewest connections, the first of those", () => {
  const layers = [state(100, { connections: 1 }), state(20), state(30)];
  expect(chooseRequest(layers, true)).toEqual({ layer: layers[1], range: range(0, 8) });
});

test("the first bytes nobody has or fetches", () => {
  const layer = state(100, { kept: [range(0, 3)], assigned: [range(3, 11), range(15, 20)] });
  expect(chooseRequest([layer], true)?.range).toEqual(range(11, 15));
});

test.each([
  [10, 8],
  [256, 8],
  [640, 20],
  [1 << 20, 64],
])("a layer of %d MiB is asked for by %d MiB", (size, request) => {
  expect(chooseRequest([state(size)], true)?.range).toEqual(range(0, request));
});

test("nothing is left", () => {
  const done = state(10, { kept: [range(0, 10)] });
  const assigned = state(10, { kept: [range(0, 4)], assigned: [range(4, 10)], connections: 1 });
  expect(chooseRequest([done, assigned], true)).toBeNull();
  expect(chooseRequest([], true)).toBeNull();
});

test("without ranges a layer gets one connection, for all that is missing at its end", () => {
  const busy = state(100, { connections: 1 });
  const next = state(100, { kept: [range(0, 5), range(50, 60)] });
  expect(chooseRequest([busy, next], false)).toEqual({ layer: next, range: range(5, 100) });
  expect(chooseRequest([busy], false)).toBeNull();
});

import { spawnSync } from "node:child_process";
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import * as z from "zod";
import { IMPORTING, STAGING_STEPS } from "../deploy/update-step.ts";
import type { PullProgress } from "../image/pull-progress.ts";
import { progressJsonSchema } from "../spec/progress.ts";
import { makeJsonReporter } from "./progress-json.ts";

/** What `bootc internals print-json-schema --of progress` promises. */
const printed = z.fromJSONSchema(progressJsonSchema() as Parameters<typeof z.fromJSONSchema>[0]);

const directory = mkdtempSync(join(tmpdir(), "progress-json-"));
afterAll(() => rmSync(directory, { recursive: true }));

/** Both ends of a named pipe. */
function openPipe(name: string): { reader: number; writer: number } {
  const path = join(directory, name);
  expect(spawnSync("mkfifo", [path]).status).toBe(0);
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  return { reader, writer: openSync(path, constants.O_WRONLY) };
}

function readLines(reader: number): unknown[] {
  const buffer = new Uint8Array(65_536);
  const text = Buffer.from(buffer.subarray(0, readSync(reader, buffer))).toString();
  expect(text.endsWith("\n")).toBe(true);
  return text
    .slice(0, -1)
    .split("\n")
    .map((line) => JSON.parse(line))
    .map((value) => {
      expect(printed.safeParse(value).error?.issues ?? []).toEqual([]);
      return value;
    });
}

function progress(bytes: number, layersDone: number): PullProgress {
  const cached = { bytesCached: 7, layersCached: 1 };
  const layers = ["sha256:aa", "sha256:bb"].map((digest, index) => ({
    digest,
    bytes: Math.min(50, Math.max(0, bytes - index * 50)),
    bytesTotal: 50,
    bytesCached: 0,
  }));
  return { bytes, bytesTotal: 100, layersDone, layersTotal: 2, ...cached, layers };
}

function event(bytes: number, steps: number) {
  return {
    type: "ProgressBytes",
    task: "pulling",
    description: "Pulling composefs image",
    id: "composefs-pull",
    ...{ bytesCached: 7, bytes, bytesTotal: 100, stepsCached: 1, steps, stepsTotal: 2 },
    subtasks: progress(bytes, steps)
      .layers.filter((layer) => layer.bytes > 0)
      .map(({ digest, ...counts }) => ({
        subtask: "composefs_layer",
        description: `Layer ${digest}`,
        id: digest,
        ...counts,
      })),
  };
}

/** The published schema, progress-v0 (bootc.md 2.4). */
const count = z.int().min(0);
const named = { description: z.string(), id: z.string() };
const byteCounts = { bytesCached: count, bytes: count, bytesTotal: count };
const stepCounts = { stepsCached: count, steps: count, stepsTotal: count };
const eventSchema = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("Start"), version: z.string() }),
  z.strictObject({
    type: z.literal("ProgressBytes"),
    task: z.string(),
    ...named,
    ...byteCounts,
    ...stepCounts,
    subtasks: z.array(z.strictObject({ subtask: z.string(), ...named, ...byteCounts })),
  }),
  z.strictObject({
    type: z.literal("ProgressSteps"),
    task: z.string(),
    ...named,
    ...stepCounts,
    subtasks: z.array(z.strictObject({ subtask: z.string(), ...named, completed: z.boolean() })),
  }),
]);

describe("makeJsonReporter", () => {
  test("Start, then at most five events a second, finished layers always", () => {
    const { reader, writer } = openPipe("events");
    let timeMs = 0;
    const { report, finish } = makeJsonReporter(writer, { now: () => timeMs, warn: expect.fail });
    report(progress(0, 0));
    report(progress(10, 0));
    timeMs += 200;
    report(progress(20, 0));
    report(progress(50, 1));
    timeMs += 199;
    report(progress(60, 1));
    report(progress(100, 2));
    finish();
    expect(readLines(reader)).toEqual([
      { type: "Start", version: "0.1.0" },
      ...[event(0, 0), event(20, 0), event(50, 1), event(100, 2)],
    ]);
    closeSync(reader);
    closeSync(writer);
  });

  test("all of an update, as the schema has it", () => {
    const { reader, writer } = openPipe("update");
    const { report, step, finish } = makeJsonReporter(writer, { now: () => 0, warn: expect.fail });
    report(progress(0, 0));
    report(progress(100, 2));
    for (const each of [IMPORTING, ...Object.values(STAGING_STEPS), null]) step(each);
    finish();
    const events = readLines(reader).map((line) => eventSchema.parse(line));
    const steps = events.flatMap((each) =>
      each.type !== "ProgressSteps"
        ? []
        : [
            [each.task, each.steps, each.stepsTotal, each.subtasks[0]!.id].join(" ") +
              (each.subtasks[0]!.completed ? " done" : ""),
          ],
    );
    expect(steps).toEqual([
      "importing 0 1 importing",
      "importing 1 1 importing done",
      "staging 0 3 fetching",
      "staging 1 3 deploying",
      "staging 2 3 cleanup",
      "staging 3 3 cleanup done",
    ]);
    expect(events.slice(0, 3).map(({ type }) => type)).toEqual([
      "Start",
      "ProgressBytes",
      "ProgressBytes",
    ]);
    closeSync(reader);
    closeSync(writer);
  });

  test("a full pipe that does not block: whole lines, and the required ones", () => {
    const path = join(directory, "full");
    expect(spawnSync("mkfifo", [path]).status).toBe(0);
    const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const writer = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
    let timeMs = 0;
    const output = { now: () => timeMs, warn: expect.fail };
    const { report, step, finish } = makeJsonReporter(writer, output);
    for (; timeMs < 200_000; timeMs += 200) report(progress(Math.floor(timeMs / 2000), 0));
    step(IMPORTING);
    step(null);
    let text = "";
    const buffer = Buffer.alloc(4096);
    for (let isEmpty = false; !isEmpty; ) {
      try {
        text += buffer.toString("utf8", 0, readSync(reader, buffer));
      } catch {
        isEmpty = true;
      }
      finish();
    }
    const events = text
      .trimEnd()
      .split("\n")
      .map((line) => eventSchema.parse(JSON.parse(line)));
    expect(events.length).toBeLessThan(500);
    expect(events.slice(-2).map(({ type }) => type)).toEqual(["ProgressSteps", "ProgressSteps"]);
    closeSync(reader);
    closeSync(writer);
  });

  test("lines are canonical JSON", () => {
    const { reader, writer } = openPipe("canonical");
    makeJsonReporter(writer, { now: () => 0, warn: expect.fail }).report(progress(1, 0));
    const buffer = new Uint8Array(4096);
    const text = Buffer.from(buffer.subarray(0, readSync(reader, buffer))).toString();
    expect(text.split("\n")[1]).toBe(
      '{"bytes":1,"bytesCached":7,"bytesTotal":100,"description":"Pulling composefs image",' +
        '"id":"composefs-pull","steps":0,"stepsCached":1,"stepsTotal":2,"subtasks":[' +
        '{"bytes":1,"bytesCached":0,"bytesTotal":50,"description":"Layer sha256:aa",' +
        '"id":"sha256:aa","subtask":"composefs_layer"}],' +
        '"task":"pulling","type":"ProgressBytes"}',
    );
    closeSync(reader);
    closeSync(writer);
  });

  test("a reader that goes away is reported once and nothing fails", () => {
    const { reader, writer } = openPipe("gone");
    const warnings: string[] = [];
    const output = { now: () => 0, warn: (text: string) => warnings.push(text) };
    const { report } = makeJsonReporter(writer, output);
    closeSync(reader);
    report(progress(1, 1));
    report(progress(2, 2));
    expect(warnings).toEqual([expect.stringMatching(/^Failed to write to jsonl: .*EPIPE/)]);
    closeSync(writer);
  });

  test("only the writing end of a pipe will do", () => {
    const { reader, writer } = openPipe("ends");
    const file = openSync("/dev/null", "w");
    for (const fd of [-1, 0, 1, 2, 2.5, Number.NaN, 9999, file, reader]) {
      expect(() => makeJsonReporter(fd, { now: () => 0, warn: expect.fail })).toThrow(
        `Cannot use fd ${fd} for progress JSON`,
      );
    }
    for (const fd of [file, reader, writer]) closeSync(fd);
  });
});

test("the printed schema refuses what is no event", () => {
  expect(printed.safeParse({ type: "Start" }).success).toBe(false);
  expect(printed.safeParse({ type: "Other", version: "0.1.0" }).success).toBe(false);
  expect(printed.safeParse({ ...event(1, 0), bytes: -1 }).success).toBe(false);
});

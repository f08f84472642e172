import { spawnSync } from "node:child_process";
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import type { PullProgress } from "../image/pull.ts";
import { makeJsonReporter } from "./progress-json.ts";

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
    .map((line) => JSON.parse(line));
}

function progress(bytes: number, layersDone: number): PullProgress {
  const cached = { bytesCached: 7, layersCached: 1 };
  return { bytes, bytesTotal: 100, layersDone, layersTotal: 2, ...cached };
}

function event(bytes: number, steps: number) {
  return {
    type: "ProgressBytes",
    task: "pulling",
    description: "Pulling composefs image",
    id: "composefs-pull",
    ...{ bytesCached: 7, bytes, bytesTotal: 100, stepsCached: 1, steps, stepsTotal: 2 },
    subtasks: [],
  };
}

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

  test("lines are canonical JSON", () => {
    const { reader, writer } = openPipe("canonical");
    makeJsonReporter(writer, { now: () => 0, warn: expect.fail }).report(progress(1, 0));
    const buffer = new Uint8Array(4096);
    const text = Buffer.from(buffer.subarray(0, readSync(reader, buffer))).toString();
    expect(text.split("\n")[1]).toBe(
      '{"bytes":1,"bytesCached":7,"bytesTotal":100,"description":"Pulling composefs image",' +
        '"id":"composefs-pull","steps":0,"stepsCached":1,"stepsTotal":2,"subtasks":[],' +
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

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { JournalSocket } from "../../test/support/journal-socket.ts";
import { EVENTS, recordEvent } from "./events.ts";

const events = Object.entries(EVENTS);

test("every id is one that MESSAGE_ID= can carry, and stands for one event", () => {
  const ids = events.map(([, { id }]) => id);
  expect(ids.filter((id) => !/^[0-9a-f]{32}$/.test(id))).toEqual([]);
  expect(new Set(ids).size).toBe(ids.length);
});

test("ids of releases stay as they are", () => {
  expect(EVENTS.staged.id).toBe("8f7a2b1c3d4e5f6a7b8c9d0e1f2a3b4c");
  expect(EVENTS.rolledBack.id).toBe("26f3b1eb24464d12aa5e7b544a6b5468");
  expect(EVENTS.entryBroken.id).toBe("d264f924dadb4c31bff0412107d391fb");
});

test("our own ids say that they are random (RFC 9562, version 4)", () => {
  const own = events.filter(([, { bootcId }]) => bootcId === null || bootcId.length !== 32);
  const wrong = own.filter(([, { id }]) => !/^.{12}4.{3}[89ab]/.test(id));
  expect(wrong.map(([name]) => name).filter((name) => name !== "rolledBack")).toEqual([]);
});

test("fields can be fields of the journal", () => {
  const names = events.flatMap(([, { fields }]) => fields as readonly string[]);
  expect(names.filter((name) => !/^[A-Z][A-Z_]*$/.test(name))).toEqual([]);
});

test("recordEvent sends the event's ids and fields", () => {
  const run = mkdtempSync(join(tmpdir(), "run-"));
  try {
    using journal = new JournalSocket(run);
    recordEvent({ runDirectory: run }, "rolledBack", "Next boot: x", {
      DEPLOYMENT: "ab",
      REVERTED: false,
      DISCARDED: null,
    });
    expect(journal.take()).toEqual([
      {
        MESSAGE: "Next boot: x",
        MESSAGE_ID: "26f3b1eb24464d12aa5e7b544a6b5468",
        F_MESSAGE_ID: "6f5e4d3c2b1a0f9e8d7c6b5a4e3d2c1b0",
        PRIORITY: "5",
        SYSLOG_IDENTIFIER: "bootc",
        BOOTC_DEPLOYMENT: "ab",
        BOOTC_REVERTED: "no",
      },
    ]);
  } finally {
    rmSync(run, { recursive: true });
  }
});

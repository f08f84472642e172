import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { JournalSocket, parseRecord } from "../../test/support/journal-socket.ts";
import { encodeRecord, type JournalRecord, sendJournal } from "./native.ts";

const ID = "130d11a58646453c876e7c14d69c3afe";
const record = (changes: Partial<JournalRecord> = {}): JournalRecord => ({
  messageId: ID,
  priority: 5,
  message: "Something happened",
  fields: {},
  ...changes,
});

describe("encodeRecord", () => {
  test("plain values are lines", () => {
    const fields = { BOOTC_IMAGE: "quay.io/os:1", BOOTC_BYTES: 12, BOOTC_VERSION: null };
    expect(Buffer.from(encodeRecord(record({ fields }))).toString()).toBe(
      `MESSAGE=Something happened\nMESSAGE_ID=${ID}\nPRIORITY=5\nSYSLOG_IDENTIFIER=bootc\n` +
        "BOOTC_IMAGE=quay.io/os:1\nBOOTC_BYTES=12\n",
    );
  });

  test("a value with line breaks is counted, so that it cannot forge a field", () => {
    const message = "one\nPRIORITY=0\n";
    const bytes = Buffer.from(encodeRecord(record({ message })));
    expect(bytes.subarray(0, 8 + 8).toString("hex")).toBe(
      `${Buffer.from("MESSAGE\n").toString("hex")}0f00000000000000`,
    );
    expect(parseRecord(bytes)).toMatchObject({ MESSAGE: message, PRIORITY: "5" });
  });

  test("a long value is cut, so that the record fits into a datagram", () => {
    const parsed = parseRecord(Buffer.from(encodeRecord(record({ message: "x".repeat(1 << 20) }))));
    expect(parsed["MESSAGE"]).toHaveLength(8192);
  });
});

describe("sendJournal", () => {
  let run: string;
  beforeEach(() => {
    run = mkdtempSync(join(tmpdir(), "run-"));
  });
  afterEach(() => rmSync(run, { recursive: true }));

  test("arrives at the socket as one record", () => {
    using journal = new JournalSocket(run);
    sendJournal(run, record({ fields: { BOOTC_VERB: "upgrade" } }));
    sendJournal(run, record({ message: "Two\nlines" }));
    expect(journal.take()).toEqual([
      {
        MESSAGE: "Something happened",
        MESSAGE_ID: ID,
        PRIORITY: "5",
        SYSLOG_IDENTIFIER: "bootc",
        BOOTC_VERB: "upgrade",
      },
      { MESSAGE: "Two\nlines", MESSAGE_ID: ID, PRIORITY: "5", SYSLOG_IDENTIFIER: "bootc" },
    ]);
  });

  test("a journal that does not read makes nobody wait", () => {
    using journal = new JournalSocket(run);
    // Far more than the queue of a socket holds.
    for (let count = 0; count < 2000; count++) sendJournal(run, record());
    expect(journal.take().length).toBeLessThan(2000);
  });

  test.each([
    ["nothing is there", () => {}],
    ["nobody listens", () => new JournalSocket(run)[Symbol.dispose]()],
    ["it is a file", () => place((path) => writeFileSync(path, ""))],
    ["it is a loop of links", () => place((path) => symlinkSync(path, path))],
    ["/run is not for us", () => chmodSync(run, 0)],
  ])("goes without when %s", (_, arrange) => {
    arrange();
    expect(() => sendJournal(run, record())).not.toThrow();
    chmodSync(run, 0o700);
  });

  function place(make: (path: string) => void) {
    mkdirSync(join(run, "systemd/journal"), { recursive: true });
    make(join(run, "systemd/journal/socket"));
  }
});

// Waits for the inhibitors of the machine whose /run is named, and says what it sees, a line each:
// "bun inhibitor-child.ts RUN".

import { writeSync } from "node:fs";
import { waitForInhibitors } from "../../updater/boot/inhibitors.ts";
import { readSystem } from "../../updater/boot/system.ts";

const [, , runDirectory] = process.argv;
if (runDirectory === undefined) throw new Error("Usage: inhibitor-child.ts RUN");

const say = (word: string, value: object) => writeSync(1, `${word} ${JSON.stringify(value)}\n`);
const waited = await waitForInhibitors(
  { ...readSystem(), runDirectory },
  { signal: new AbortController().signal, onWait: (holders) => say("waiting", holders) },
);
say("free", waited);

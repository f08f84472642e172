// Sends one record of every event to the journal below the /run that is named, for a test that asks the
// real journald for them: "bun journal-child.ts RUN".

import { EVENTS, type EventName, recordEvent } from "../../updater/journal/events.ts";

const [, , runDirectory] = process.argv;
if (runDirectory === undefined) throw new Error("Usage: journal-child.ts RUN");

for (const name of Object.keys(EVENTS) as EventName[]) {
  const fields = Object.fromEntries(
    EVENTS[name].fields.map((field) => [field, `${name}\n${field}`]),
  );
  recordEvent(
    { runDirectory },
    name,
    `This is ${name}`,
    fields as Parameters<typeof recordEvent>[3],
  );
}

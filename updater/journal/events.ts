// What this program writes to the journal: one declaration for each event, with the id that programs
// look for. docs/journal.md shows this table; events.test.ts compares.
//
// Ids are a contract: they never change and are never used for anything else. Three are bootc's own; most
// of bootc's have 33 digits, so no `MESSAGE_ID=` can be made of them (bootc.md 2.5): those are
// sent as F_MESSAGE_ID, which is where bootc puts all of them.

import { type JournalRecord, sendJournal } from "./native.ts";

interface JournalEvent {
  /** MESSAGE_ID */
  readonly id: string;
  /** What bootc sends as F_MESSAGE_ID for the same event. */
  readonly bootcId: string | null;
  readonly priority: JournalRecord["priority"];
  /** "The journal has this record when …" */
  readonly when: string;
  /** Names of the fields, without BOOTC_ in front. */
  readonly fields: readonly string[];
}

export const EVENTS = {
  pulled: {
    id: "130d11a58646453c876e7c14d69c3afe",
    bootcId: "4c3b2a1f0e9d8c7b6a5f4e3d2c1b0a9f8",
    priority: 6,
    when: "an image was fetched and its bootable form made",
    fields: ["IMAGE", "DIGEST", "VERSION", "DEPLOYMENT", "FETCHED_BYTES"],
  },
  staged: {
    id: "8f7a2b1c3d4e5f6a7b8c9d0e1f2a3b4c",
    bootcId: "8f7a2b1c3d4e5f6a7b8c9d0e1f2a3b4c",
    priority: 5,
    when: "a deployment was staged; DOWNLOAD_ONLY says whether shutdown leaves it alone",
    fields: ["IMAGE", "DIGEST", "VERSION", "DEPLOYMENT", "DOWNLOAD_ONLY"],
  },
  upgraded: {
    id: "8189991423834379ac43af3e9564a730",
    bootcId: "9c8d7f6e5a4b3c2d1e0f9a8b7c6d5e4f3",
    priority: 5,
    when: "`bootc upgrade` staged an update",
    fields: ["IMAGE", "DIGEST", "VERSION", "DEPLOYMENT"],
  },
  switched: {
    id: "3a6d837602444fdd8ad5df9331af4a15",
    bootcId: "7a6b5c4d3e2f1a0b9c8d7e6f5a4b3c2d1",
    priority: 5,
    when: "`bootc switch` or `bootc edit` staged another image",
    fields: ["IMAGE", "DIGEST", "VERSION", "DEPLOYMENT", "PREVIOUS_IMAGE"],
  },
  originChanged: {
    id: "c764f780d4df4cbe837aee7d4aa12cce",
    bootcId: "3e2f1a0b9c8d7e6f5a4b3c2d1e0f9a8b7",
    priority: 5,
    when: "`bootc switch --mutate-in-place` changed what a deployment follows",
    fields: ["IMAGE", "DEPLOYMENT", "PREVIOUS_IMAGE"],
  },
  rolledBack: {
    id: "26f3b1eb24464d12aa5e7b544a6b5468",
    bootcId: "6f5e4d3c2b1a0f9e8d7c6b5a4e3d2c1b0",
    priority: 5,
    when: "`bootc rollback` changed what boots next",
    fields: ["DEPLOYMENT", "REVERTED", "DISCARDED"],
  },
  edited: {
    id: "0a424e2c27bb4748afd34830b229cf1d",
    bootcId: null,
    priority: 5,
    when: "`bootc edit` changed the host's specification",
    fields: ["IMAGE", "BOOT_ORDER"],
  },
  finalized: {
    id: "89fbadbd0a6c4cbd8249fbbcfb5ba1f5",
    bootcId: "0e9d8c7b6a5f4e3d2c1b0a9f8e7d6c5b4",
    priority: 5,
    when: "shutdown made the staged deployment the next one to boot",
    fields: ["DEPLOYMENT"],
  },
  deleted: {
    id: "4c19f791946543f29b04122c38b33a5e",
    bootcId: "2a1f0e9d8c7b6a5f4e3d2c1b0a9f8e7d6",
    priority: 5,
    when: "`bootc delete-deployment` removed a deployment",
    fields: ["DEPLOYMENT", "DIGEST"],
  },
  collected: {
    id: "6823f3bfd01c4d15a797bb26bd136738",
    bootcId: "3b2a1f0e9d8c7b6a5f4e3d2c1b0a9f8e7",
    priority: 6,
    when: "garbage was collected and something was removed",
    fields: ["OBJECTS", "OBJECTS_BYTES", "DEPLOYMENTS", "KERNELS"],
  },
  repaired: {
    id: "fea91d51f4bc4acd975be6892d07198f",
    bootcId: null,
    priority: 5,
    when: "`bootc internals fsck --repair` mended something",
    fields: ["REPAIRED", "REMAINING"],
  },
  finalizeFailed: {
    id: "0f4232b9a3ac4fbabd92f338f7a8ac3c",
    bootcId: null,
    priority: 3,
    when: "shutdown could not apply the staged deployment, such as for a conflict in `/etc` that arose after staging",
    fields: ["DEPLOYMENT", "REASON"],
  },
  etcRulesIgnored: {
    id: "90ab052cbe9b45da9340adb10aff2a1d",
    bootcId: null,
    priority: 4,
    when: "shutdown found files of rules for `/etc` broken and used the rules recorded when staging",
    fields: ["PROBLEM"],
  },
  blessed: {
    id: "db18b324596d43b09ebeae84587591ad",
    bootcId: null,
    priority: 5,
    when: "a deployment reached boot-complete.target and its entry lost its counter",
    fields: ["DEPLOYMENT", "DIGEST"],
  },
  floorRaised: {
    id: "4644b8a16722401b98a8277153c1180d",
    bootcId: null,
    priority: 5,
    when: "a start was good, and images of a lower version than FLOOR do not start here any more",
    fields: ["FLOOR", "SOURCE"],
  },
  revokedRemoved: {
    id: "62ae2822eafc47038ada424fba57eeac",
    bootcId: null,
    priority: 4,
    when: "a start was good, and a deployment that the running image revokes left the boot menu",
    fields: ["DEPLOYMENT"],
  },
  trustProblem: {
    id: "686fbe90ffb44e8281e225024a6ae718",
    bootcId: null,
    priority: 3,
    when: "a start was good, but the version floor could not be raised or a revoked deployment not be removed",
    fields: ["PROBLEM"],
  },
  bootFailed: {
    id: "5dda1821c8034f2c929a1d4e8659a51a",
    bootcId: null,
    priority: 3,
    when: "a deployment that was tried before failed to boot, which the one that booted recorded",
    fields: ["DEPLOYMENT", "DIGEST", "IMAGE", "REASON", "DETAIL", "ATTEMPTS"],
  },
  restagingRefused: {
    id: "aa78ea890c164f23bd31afb8d511da38",
    bootcId: null,
    priority: 4,
    when: "an image was not staged because it failed to boot before",
    fields: ["IMAGE", "DIGEST", "DEPLOYMENT", "REASON", "FAILED_AT"],
  },
  entryBroken: {
    id: "d264f924dadb4c31bff0412107d391fb",
    bootcId: "d264f924dadb4c31bff0412107d391fb",
    priority: 4,
    when: "`bootc status` found a boot entry, origin or state directory that cannot be used",
    fields: ["PROBLEM"],
  },
  softRebootPrepared: {
    id: "7dc8dc3b184a4bd2830d8d0f54664cd3",
    bootcId: null,
    priority: 5,
    when: "the next root was put in place for a soft reboot",
    fields: ["DEPLOYMENT"],
  },
  kargsChanged: {
    id: "3fd1dff4cbe04401b309e82085b92444",
    bootcId: null,
    priority: 5,
    when: "kernel arguments of what boots next were changed",
    fields: ["DEPLOYMENT", "OPTIONS", "PREVIOUS_OPTIONS"],
  },
  pinned: {
    id: "4d72ae6203ae4012af265bdbd471f13f",
    bootcId: null,
    priority: 5,
    when: "`bootc pin` pinned or unpinned a deployment",
    fields: ["DEPLOYMENT", "PINNED"],
  },
  statementRenewed: {
    id: "e59ebcefe45f47348bbcf689f73425cb",
    bootcId: null,
    priority: 5,
    when: "a deployment that was there already got better signatures",
    fields: ["DEPLOYMENT", "STATEMENT_VERSION", "EXPIRES"],
  },
  updateAvailable: {
    id: "bdebfb59363346d0b48b940b249c452c",
    bootcId: null,
    priority: 6,
    when: "`bootc upgrade --check` found an update",
    fields: ["IMAGE", "DIGEST", "VERSION"],
  },
  restarting: {
    id: "7b31ea8215c7447aa9da98022b4e9ecb",
    bootcId: null,
    priority: 5,
    when: "a verb with `--apply` restarts the machine; WAITED_FOR names who held it up",
    fields: ["VERB", "WAITED_FOR"],
  },
} as const satisfies Readonly<Record<string, JournalEvent>>;

export type EventName = keyof typeof EVENTS;
/** What this event's record carries; null where it is not known. */
export type EventFields<Name extends EventName> = {
  readonly [Field in (typeof EVENTS)[Name]["fields"][number]]: string | number | boolean | null;
};

/** Writes the event to the journal of the machine with this /run; a machine without one goes without. */
export function recordEvent<Name extends EventName>(
  place: { readonly runDirectory: string },
  name: Name,
  message: string,
  fields: EventFields<Name>,
): void {
  const { id, bootcId, priority } = EVENTS[name];
  const values = Object.entries<string | number | boolean | null>(fields);
  sendJournal(place.runDirectory, {
    messageId: id,
    priority,
    message,
    fields: {
      F_MESSAGE_ID: bootcId,
      ...Object.fromEntries(values.map(([key, value]) => [`BOOTC_${key}`, fieldText(value)])),
    },
  });
}

function fieldText(value: string | number | boolean | null): string | number | null {
  return typeof value === "boolean" ? (value ? "yes" : "no") : value;
}

// Follows a verb's system calls on a machine of two disks and collects what the machine may find after an
// interruption at any of them: by a power cut, which loses what was not synced, or by SIGKILL, which loses
// nothing. Equal states are collected once.

import { DiskModel, prepareEmptyContent, type Unit } from "./disk-model.ts";
import {
  ContentStore,
  fingerprintTree,
  readDescriptor,
  readTree,
  type Tree,
} from "./observed-tree.ts";
import { type CallHooks, CHANGING_CALLS, descriptorPath, isCreating } from "./system-calls.ts";

export interface MachinePaths {
  readonly disk: string;
  readonly esp: string;
  readonly run: string;
}

export interface CrashState {
  /** "power": /run is gone. "kill": the machine goes on. "shuffled": a power cut that lost any part. */
  readonly kind: "power" | "kill" | "shuffled";
  /** The last call before it. */
  readonly label: string;
  readonly disk: Tree;
  readonly esp: Tree;
  readonly run: Tree | null;
}

export interface Recording {
  readonly states: readonly CrashState[];
  /** The power goes when the verb has returned, and takes all that was not synced. */
  readonly afterwards: CrashState;
  readonly callCount: number;
  readonly store: ContentStore;
}

interface Collector {
  readonly models: { readonly disk: DiskModel; readonly esp: DiskModel };
  readonly add: (state: CrashState) => void;
  readonly seen: Set<string>;
}

export interface Recorder {
  readonly hooks: CallHooks;
  readonly finish: () => Recording;
}

/** `shuffles`: how many random losses are tried at each call. */
export function createRecorder(
  paths: MachinePaths,
  shuffles: number,
  random: (limit: number) => number,
): Recorder {
  const store = new ContentStore();
  prepareEmptyContent(store);
  const models = {
    disk: new DiskModel("plain", readTree(paths.disk, store)),
    esp: new DiskModel("vfat", readTree(paths.esp, store)),
  };
  const states = new Map<string, CrashState>();
  const add = (state: CrashState) => {
    const run = state.run === null ? "" : fingerprintTree(state.run);
    const power = state.kind === "kill" ? "kill" : "power";
    const key = [power, fingerprintTree(state.disk), fingerprintTree(state.esp), run].join();
    if (!states.has(key)) states.set(key, state);
  };
  const collector: Collector = { models, add, seen: new Set() };
  let callCount = 0;
  const observe = (label: string) => {
    models.disk.observe(readTree(paths.disk, store));
    models.esp.observe(readTree(paths.esp, store));
    collect(collector, paths, store, label, shuffles, random);
  };
  observe("nothing");
  return {
    hooks: {
      fatRoot: paths.esp,
      before: () => null,
      after(name, args, result) {
        if (result < 0) return;
        if (name === "fsync" || name === "syncfs")
          sync(models, paths, store, name, Number(args[0]));
        else if (!CHANGING_CALLS.has(name) && !isCreating(name, args)) return;
        callCount += 1;
        observe(`${callCount} ${name}`);
      },
    },
    finish: () => ({
      states: [...states.values()],
      afterwards: {
        kind: "power",
        label: "the end",
        run: null,
        disk: models.disk.without(new Set(models.disk.pending())),
        esp: models.esp.without(new Set(models.esp.pending())),
      },
      callCount,
      store,
    }),
  };
}

function sync(
  models: Collector["models"],
  paths: MachinePaths,
  store: ContentStore,
  name: string,
  fd: number,
): void {
  const path = descriptorPath(fd);
  const isBelow = (root: string) => path === root || path.startsWith(`${root}/`);
  const model = isBelow(paths.esp) ? models.esp : isBelow(paths.disk) ? models.disk : null;
  if (model === null) return;
  if (name === "syncfs") model.syncAll();
  else model.syncInode(...readDescriptor(fd, store));
}

function collect(
  { models, add, seen }: Collector,
  paths: MachinePaths,
  store: ContentStore,
  label: string,
  shuffles: number,
  random: (limit: number) => number,
): void {
  const isSync = label.endsWith("sync") || label.endsWith("syncfs");
  const [disk, esp] = [models.disk.pending(), models.esp.pending()];
  const whole = (tree: DiskModel, lost: readonly Unit[]) => tree.without(new Set(lost));
  const put = (kind: CrashState["kind"], lostDisk: readonly Unit[], lostEsp: readonly Unit[]) => {
    const key = `${kind} ${models.disk.keyWithout(lostDisk)} ${models.esp.keyWithout(lostEsp)}`;
    if (kind !== "kill" && seen.has(key)) return;
    seen.add(key);
    const run = kind === "kill" ? readTree(paths.run, store) : null;
    add({ kind, label, run, disk: whole(models.disk, lostDisk), esp: whole(models.esp, lostEsp) });
  };
  put("kill", [], []);
  put("power", [], esp);
  put("power", disk, []);
  put("power", [], []);
  // A change adds nothing to the other cuts of the call before it.
  for (let cut = 0; isSync && cut <= disk.length; cut++) {
    for (const other of [[], esp]) put("power", disk.slice(cut), other);
  }
  for (let cut = 0; isSync && cut <= esp.length; cut++) {
    for (const other of [[], disk]) put("power", other, esp.slice(cut));
  }
  const some = (units: readonly Unit[]) => units.filter(() => random(2) === 0);
  for (let n = 0; n < shuffles && disk.length + esp.length > 1; n++) {
    put("shuffled", some(disk), some(esp));
  }
}

import { expect, test } from "vitest";
import type { InstallConfig } from "./install-config.ts";
import { type GivenOptions, mergeInstallOptions } from "./install-options.ts";

const NOTHING: GivenOptions = {
  kargs: [],
  kargDeletes: [],
  rootMountSpec: null,
  bootMountSpec: null,
  bootloader: null,
  stateroot: null,
  enforceSigpolicy: null,
};
const DEFAULTS = {
  kargs: [],
  kargDeletes: [],
  rootMountSpec: null,
  bootMountSpec: null,
  bootloader: "systemd",
  enforceSigpolicy: false,
};
const CONFIG: InstallConfig = {
  kargs: ["console=ttyS0 quiet", "nosmt"],
  "karg-deletes": ["rw"],
  "root-mount-spec": "LABEL=root",
  "boot-mount-spec": "",
  bootloader: "none",
  stateroot: "default",
  "enforce-container-sigpolicy": true,
};

test.each<[string, Partial<GivenOptions>, InstallConfig | null, object]>([
  ["nothing said", {}, null, {}],
  [
    "the configuration alone",
    {},
    CONFIG,
    {
      kargs: ["console=ttyS0 quiet nosmt"],
      kargDeletes: ["rw"],
      rootMountSpec: "LABEL=root",
      bootMountSpec: "",
      bootloader: "none",
      enforceSigpolicy: true,
    },
  ],
  [
    "options count first, and arguments are added",
    {
      kargs: ["debug"],
      kargDeletes: ["splash"],
      rootMountSpec: "",
      bootMountSpec: "UUID=1",
      bootloader: "systemd",
      enforceSigpolicy: false,
    },
    CONFIG,
    {
      kargs: ["console=ttyS0 quiet nosmt", "debug"],
      kargDeletes: ["rw", "splash"],
      rootMountSpec: "",
      bootMountSpec: "UUID=1",
      bootloader: "systemd",
      enforceSigpolicy: false,
    },
  ],
  [
    "either side deletes what the configuration adds: by value, or by key",
    { kargDeletes: ["console", "quiet=1"] },
    { kargs: ["console=ttyS0 console=tty0 quiet nosmt=force"], "karg-deletes": ["nosmt=force"] },
    { kargs: ["quiet"], kargDeletes: ["nosmt=force", "console", "quiet=1"] },
  ],
  [
    "neither deletes what --karg says, which is there once",
    { kargs: ["quiet", "debug"], kargDeletes: ["quiet"] },
    { kargs: ["quiet", "debug"], "karg-deletes": ["debug"] },
    { kargs: ["quiet", "debug"], kargDeletes: ["debug", "quiet"] },
  ],
])("%s", (_, given, config, expected) => {
  expect(mergeInstallOptions({ ...NOTHING, ...given }, config)).toEqual({
    ...DEFAULTS,
    ...expected,
  });
});

test.each<[string, Partial<GivenOptions>, InstallConfig, RegExp]>([
  ["a stateroot that is given", { stateroot: "x" }, {}, /one stateroot, "default", not "x"$/],
  ["a configured stateroot", {}, { stateroot: "x" }, /not "x" \(from the image's bootc\/install/],
  ["GRUB", {}, { bootloader: "grub" }, /boot loader "grub".*--bootloader systemd/],
  ["no argument", {}, { kargs: ['a="b'] }, /bootc\/install\/\*\.toml: kargs/],
  ["whose image starts", {}, { kargs: ["composefs=0"] }, /kargs composefs=0/],
])("refused: %s", (_, given, config, message) => {
  expect(() => mergeInstallOptions({ ...NOTHING, ...given }, config)).toThrow(message);
});

test("an option overrides what would be refused", () => {
  const config: InstallConfig = { bootloader: "grub", stateroot: "x" };
  const given = { ...NOTHING, bootloader: "systemd", stateroot: "default" } as const;
  expect(mergeInstallOptions(given, config)).toEqual(DEFAULTS);
});

// The steps of an update or installation after the fetch, as people and programs are told about them. Tasks
// and subtasks are bootc's (bootc.md 2.4).

export interface UpdateStep {
  readonly task: "importing" | "staging";
  readonly subtask: string;
  readonly id: string;
  /** Steps of the task before this one, and all of them. */
  readonly index: number;
  readonly total: number;
  /** For a person. */
  readonly text: string;
}

export const IMPORTING: UpdateStep = {
  task: "importing",
  subtask: "importing",
  id: "importing",
  index: 0,
  total: 1,
  text: "Building the bootable image",
};

const STAGING = { task: "staging", total: 3 } as const;
const DEPLOYING = { ...STAGING, subtask: "deploying", id: "deploying", index: 1 } as const;

export const STAGING_STEPS = {
  merging: {
    ...STAGING,
    subtask: "merging",
    id: "fetching",
    index: 0,
    text: "Comparing the configuration",
  },
  deploying: { ...DEPLOYING, text: "Staging the deployment" },
  cleanup: {
    ...STAGING,
    subtask: "cleanup",
    id: "cleanup",
    index: 2,
    text: "Removing what is no longer needed",
  },
} as const satisfies Record<string, UpdateStep>;

export const INSTALL_STEPS = {
  bootloader: {
    ...STAGING,
    subtask: "bootloader",
    id: "bootloader",
    index: 0,
    text: "Installing systemd-boot",
  },
  deploying: { ...DEPLOYING, text: "Writing the deployment" },
  settling: {
    ...STAGING,
    subtask: "settling",
    id: "settling",
    index: 2,
    text: "Writing everything to the disk",
  },
} as const satisfies Record<string, UpdateStep>;

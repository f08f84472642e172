// What images trust, for tests of what is made of it.

import { parseTrustAnchors } from "../../shared/format/trust/anchors.ts";
import {
  combineTrust,
  type ImageTrust,
  type TrustForm,
  type UkiTrust,
} from "../../updater/trust/image-trust.ts";
import { trustKey } from "./trust-place.ts";

interface TrustOptions {
  /** Names of keys in its trust directory. */
  readonly keys?: readonly string[];
  /** Lines of revoked.d. */
  readonly revoked?: readonly string[];
  /** Lines of trust.conf. */
  readonly conf?: readonly string[];
  readonly uki?: UkiTrust;
}

export function makeImageTrust({ conf, keys = [], revoked = [], uki }: TrustOptions): ImageTrust {
  const anchors = parseTrustAnchors({
    keys: new Map(keys.map((name) => [`${name}.pub`, trustKey(name).pub])),
    revoked: new Map([["list", revoked.join("\n")]]),
    conf: conf === undefined ? null : `[image]\n${conf.join("\n")}\n`,
  });
  return combineTrust(anchors, uki ?? null);
}

/** One of each kind; `id` is what a sealed one names. */
export function makeTrustForms(id: string): Readonly<Record<TrustForm | "signed-uki", ImageTrust>> {
  const none = { cmdline: null, keys: null };
  return {
    unlocked: makeImageTrust({}),
    signed: makeImageTrust({ keys: ["vendor"] }),
    "signed-uki": makeImageTrust({ keys: ["vendor"], uki: none }),
    sealed: makeImageTrust({ uki: { cmdline: `root=UUID=1 composefs=${id}`, keys: null } }),
    ephemeral: makeImageTrust({ uki: { ...none, keys: trustKey("build").pub } }),
  };
}

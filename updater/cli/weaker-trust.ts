// The option of `upgrade` and `switch` for leaving a mode of trust on purpose (docs/decisions/0022).

import { Option } from "@commander-js/extra-typings";

export function makeWeakerTrustOption() {
  return new Option(
    "--allow-weaker-trust",
    "also stage an image that the running system's keys do not accept, that proves less than what runs, or that Secure Boot is certain to refuse",
  );
}

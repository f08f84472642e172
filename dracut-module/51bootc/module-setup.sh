#!/bin/bash
# dracut module "bootc": puts prepare-root into an initramfs that starts with systemd.
# Named as bootc's own module, so that images which ask for that one get this one.
#
# Settings in dracut.conf.d:
#   bootc_program=addon   leaves the executable (100 MB) out: a UKI addon brings it, once for all UKIs, as
#                         usr/lib/bootc/runtime/<sha256 of the executable>/prepare-root of its .initrd
#                         (docs/sealing.md). Default: "initramfs", it is put in.

# called by dracut
check() {
    require_binaries /usr/lib/bootc/prepare-root || return 1
    # Only when asked for: dracut.conf.d/60-bootc-ts.conf does.
    return 255
}

# called by dracut
depends() {
    echo systemd-initrd systemd-modules-load
}

# called by dracut
installkernel() {
    local _module _list=/usr/lib/modules-load.d/bootc.conf

    hostonly='' instmods erofs overlay loop ext4 vfat nls_ascii nls_cp437 nls_iso8859-1

    # Where the version floor of signed images lies: a TPM, the EFI system partition (decision 0019). The keys
    # may come with the UKI, so these are always there.
    hostonly='' instmods efivarfs tpm_crb tpm_tis tpm_tis_spi tpm_tis_i2c

    # fs-verity keeps the hash implementation that it finds at its first use: the fast ones must be
    # loaded before. Which of them are modules depends on kernel and architecture, and naming one
    # that is missing would fail systemd-modules-load.service.
    mkdir -p "$initdir${_list%/*}"
    for _module in sha512-ssse3 sha256-ssse3 sha512-ce sha2-ce sha512-arm64 sha256-arm64; do
        check_kernel_module "$_module" || continue
        hostonly='' instmods "$_module"
        echo "$_module" >> "$initdir$_list"
    done

    # Nothing waits for a TPM; where keys are, its drivers are loaded before prepare-root.
    [ -d "${dracutsysrootdir-}$_trust/keys.d" ] || return 0
    for _module in tpm_crb tpm_tis; do
        check_kernel_module "$_module" && echo "$_module" >> "$initdir$_list"
    done
    return 0
}

_trust=/usr/lib/bootc/trust

# The trust directory as it is. prepare-root starts nothing when something in it is not as it should be, so that is
# found now: a link would lead out of it.
install_trust() {
    local _path
    [ -d "${dracutsysrootdir-}$_trust" ] || return 0
    _path=$(find "${dracutsysrootdir-}$_trust" ! -type f ! -type d | head -n 1)
    if [ -n "$_path" ]; then
        dfatal "bootc: $_path is neither a file nor a directory: put the file itself there"
        exit 1
    fi
    find "${dracutsysrootdir-}$_trust" -type f | sort | while IFS= read -r _path; do
        inst_simple "${_path#"${dracutsysrootdir-}"}"
    done
}

# A link to where the addon will put the program. Its libraries stay in the initramfs.
leave_program_to_addon() {
    local _copy _program _sum
    _program=$(readlink -f "${dracutsysrootdir-}/usr/lib/bootc/prepare-root")
    _sum=$(sha256sum "$_program")
    _copy=$initdir${_program#"${dracutsysrootdir-}"}
    # dracut itself looks for libraries at the very end, when the program is not there any more.
    # shellcheck disable=SC2086 # as dracut calls it
    if ! $DRACUT_INSTALL -D "$initdir" ${dracutsysrootdir:+-r "$dracutsysrootdir"} -R -- "$_copy"; then
        dfatal "bootc: the libraries of $_program cannot be put into the initramfs"
        exit 1
    fi
    rm -f "$initdir/usr/lib/bootc/prepare-root" "$_copy"
    ln -s "runtime/${_sum%% *}/prepare-root" "$initdir/usr/lib/bootc/prepare-root"
}

# called by dracut
install() {
    local _unit=prepare-root.service _conf _key

    # A symlink to /usr/bin/bootc; dracut takes both, and the libraries.
    inst_binary /usr/lib/bootc/prepare-root
    case ${bootc_program-initramfs} in
        initramfs) ;;
        addon) leave_program_to_addon ;;
        *)
            dfatal "bootc: bootc_program=\"$bootc_program\" in dracut.conf.d is neither initramfs nor addon"
            exit 1
            ;;
    esac
    install_trust
    inst_script "$moddir/prepare-root-failed.sh" /usr/lib/bootc/prepare-root-failed
    inst_multiple -o /usr/lib/composefs/setup-root-conf.toml sleep systemctl

    # ostree's own config; whoever keeps the public keys elsewhere says so there.
    for _conf in /usr/lib/ostree/prepare-root.conf /etc/ostree/prepare-root.conf; do
        [ -r "${dracutsysrootdir-}$_conf" ] || continue
        _key=$(sed -n 's/^[[:space:]]*keypath[[:space:]]*=[[:space:]]*//p' "${dracutsysrootdir-}$_conf" | tail -n 1)
        inst_multiple -o "$_conf" ${_key:+"$_key"}
    done
    inst_multiple -o /etc/ostree/initramfs-root-binding.key

    inst_simple "$moddir/$_unit" "$systemdsystemunitdir/$_unit"
    # The names that bootc's and ostree's units have, for drop-ins, orderings and scripts. Where dracut's
    # module "ostree" is in the initramfs as well, this one takes its place.
    ln -sfn "$_unit" "$initdir$systemdsystemunitdir/bootc-root-setup.service"
    ln -sfn "$_unit" "$initdir$systemdsystemunitdir/ostree-prepare-root.service"
    mkdir -p "$initdir/usr/lib/ostree"
    ln -sfn ../bootc/prepare-root "$initdir/usr/lib/ostree/ostree-prepare-root"
    $SYSTEMCTL -q --root "$initdir" add-requires initrd-root-fs.target "$_unit"

    inst_simple "$moddir/no-volatile-root.conf" \
        "$systemdsystemunitdir/systemd-volatile-root.service.d/10-bootc.conf"
}

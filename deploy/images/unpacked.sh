#!/usr/bin/env bash
# unpacked.sh ROOT: takes what no service needs out of an unpacked base and adds what packages' scripts would have made.
set -euo pipefail
root=$1
packages=$root/var/cache/apt/archives

# Tools that others name for their scripts, the libraries of these tools, and what Python's modules dbm and readline link.
unneeded=" debconf dpkg libacl1 libdb5.3t64 libmd0 libncursesw6 libpcre2-8-0 libreadline8t64 libselinux1 mawk openssl
 openssl-provider-legacy readline-common tar libtinfo6 "
unneeded=${unneeded//$'\n'/}

# What is in the image, in the form that scanners look for where there is no dpkg: a file of control data for each package.
mkdir -p "$root/var/lib/dpkg/status.d"
for package in "$packages"/*.deb; do
  name=$(dpkg-deb --field "$package" Package)
  if [[ $unneeded == *" $name "* ]]; then
    dpkg-deb --fsys-tarfile "$package" | tar -t | while read -r path; do
      if [ -L "$root/$path" ] || [ -f "$root/$path" ]; then rm "$root/$path"; fi
    done
  else
    { dpkg-deb --field "$package"; echo "SHA256: $(sha256sum <"$package" | cut -d' ' -f1)"; } >"$root/var/lib/dpkg/status.d/$name"
  fi
done

# Licences stay. gconv: other character sets for iconv, which Python has its own of.
find "$root/usr/share/doc" -type f ! -name copyright -delete
python=$root/usr/lib/python3.13
rm -rf "$root"/usr/share/{base-files,binfmts,gcc,man,info,locale,lintian,bash-completion,perl5,debconf,bug,readline,apps,pixmaps} "$root"/usr/lib/*/gconv "$root"/usr/lib/dpkg \
  "$root"/{etc/{hostname,resolv.conf,fstab,issue,issue.net,motd,alternatives,cron.daily,dpkg,logrotate.d,default,apt,update-motd.d},var/cache,var/log,var/backups,boot,media,mnt,opt,srv} \
  "$python"/{test,pydoc_data,idlelib,lib2to3,turtledemo,ensurepip} "$python"/lib-dynload/{_dbm,readline,_curses,_curses_panel,_testcapi,_xxtestfuzz}.*.so \
  "$root"/usr/lib/*/{perl*,engines-3,ossl-modules}
find "$root/usr/share/doc" "$root/usr/share" -type d -empty -delete
mkdir -p "$packages/partial" "$root/var/lib/apt/lists"

# What the scripts of base-passwd, ca-certificates and libc would have written.
cat >"$root/etc/passwd" <<'END'
root:x:0:0:root:/:/nonexistent
headrace:x:65532:65532:headrace:/var/lib/headrace:/nonexistent
END
printf 'root:x:0:\nheadrace:x:65532:\n' >"$root/etc/group"
printf 'hosts: files dns\npasswd: files\ngroup: files\n' >"$root/etc/nsswitch.conf"
mkdir -p "$root/etc/ssl/certs"
find "$root/usr/share/ca-certificates" -name '*.crt' -print0 | LC_ALL=C sort -z | xargs -0 cat >"$root/etc/ssl/certs/ca-certificates.crt"
rm -rf "$root/usr/share/ca-certificates"
# By this name the hooks of pods call it.
ln -s python3 "$root/usr/bin/python"
# What is mounted there gets their owner, if it is an empty volume.
for folder in etc/headrace tls secrets run/headrace var/lib/headrace; do
  mkdir -p "$root/$folder"
  chown 65532:65532 "$root/$folder"
done

# Now, since a read-only root cannot keep it later. By content: the times of files in a layer are not those that were compiled.
chroot "$root" /usr/bin/python3.13 -m compileall -q --invalidation-mode unchecked-hash /usr/lib/python3.13

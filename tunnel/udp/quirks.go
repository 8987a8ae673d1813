package udp

import "golang.org/x/sys/unix"

// gsoQuirks are the limits and faults of UDP_SEGMENT that go by kernel version.
type gsoQuirks struct {
	segments  int  // datagrams in one run
	equalTail bool // runs of equal datagrams come out damaged
}

// kernelQuirks reads the running kernel's.
func kernelQuirks() gsoQuirks {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return quirksOf("")
	}
	return quirksOf(unix.ByteSliceToString(name.Release[:]))
}

// quirksOf derives the quirks from a release such as "6.18.44-fc". What cannot be read counts as
// old.
func quirksOf(release string) gsoQuirks {
	major, minor, patch := parseRelease(release)
	q := gsoQuirks{segments: 64} // UDP_MAX_SEGMENTS before 6.9
	if major > 6 || major == 6 && minor >= 9 {
		q.segments = 128
	}
	// Linux b10b446 (7.0-rc1) damaged headers and checksums of runs without a shorter tail on their
	// way to some drivers; 78effd8 and 5f17ae0 fixed that in 7.1.5. Distributions may have the
	// repair earlier, which cannot be seen: they get the workaround as well.
	q.equalTail = major == 7 && (minor == 0 || minor == 1 && patch <= 4)
	return q
}

// parseRelease reads the leading numbers; those missing are 0.
func parseRelease(release string) (major, minor, patch int) {
	for _, field := range []*int{&major, &minor, &patch} {
		digits := 0
		for digits < len(release) && release[digits] >= '0' && release[digits] <= '9' && digits < 6 {
			*field = *field*10 + int(release[digits]-'0')
			digits++
		}
		if digits == 0 || digits == len(release) || release[digits] != '.' {
			return major, minor, patch
		}
		release = release[digits+1:]
	}
	return major, minor, patch
}

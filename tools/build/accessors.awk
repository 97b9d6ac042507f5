# SPDX-License-Identifier: GPL-2.0
#
# Finds the functions of C files that reach guest memory: by the page's HVA, by
# pinning or mapping it, or through one of KVM's accessors. Prints FILE,FUNCTION
# lines, repeated ones included. For accessors.sh.
#
# Works on kernel style: a function's name is on a line that starts in column one.

BEGIN {
	name = "(__copy_(from|to)_user(_inatomic)?|copy_(from|to)_user_nofault|" \
	       "_*get_user|_*put_user|unsafe_(get|put)_user|__try_cmpxchg_user|" \
	       "user_access_begin|_*clear_user|" \
	       "_*(kvm_vcpu_)?gfn_to_hva(_many|_memslot|_memslot_prot|_prot)?|" \
	       "hva_to_pfn|kvm_follow_pfn|_*gfn_to_page|_*kvm_faultin_pfn|" \
	       "(pin|get)_user_pages?[a-z_]*|kvm_gmem_(get_pfn|populate)|" \
	       "_*kvm_vcpu_map(_readonly)?|kvm_gpc_(activate|refresh)|gpc_map|" \
	       "kvm_(vcpu_)?(read|write)_guest[a-z_]*|kvm_clear_guest|" \
	       "kvm_(get|put)_guest|FNAME[(]walk_addr[a-z_]*[)])"
	pattern = "(^|[^a-zA-Z_0-9>.])" name "[(]|CLASS[(]kvm_vcpu_map_local"
}

FNR == 1 {
	function_name = "-"
	comment = 0
}

comment {
	comment = $0 !~ /\*\//
	next
}

/^[ \t]*\/\*/ && !/\*\// {
	comment = 1
	next
}

/^[ \t]*\*/ { next }

{ gsub(/"[^"]*"|\/\*.*\*\//, "") }

/^#define [a-zA-Z_0-9]+\(/ {
	function_name = $2
	sub(/\(.*/, "", function_name)
	next
}

/^[a-zA-Z_]/ {
	if (/\(/ && !/;[ \t]*$/ && !/^(EXPORT|DEFINE_|module_param|static_assert)/) {
		function_name = $0
		if (match($0, /FNAME\([a-z_0-9]+\)/)) {
			function_name = substr($0, RSTART, RLENGTH)
		} else {
			sub(/\(.*/, "", function_name)
			sub(/.*[ \t*]/, "", function_name)
		}
	}
	next
}

$0 ~ pattern { print FILENAME "," function_name }

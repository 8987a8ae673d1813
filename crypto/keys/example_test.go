package keys_test

import (
	"fmt"

	"tund/crypto/keys"
)

// A private key prints as "(hidden)" with every verb; Base64 is the only way to its text.
func ExampleParsePrivate() {
	private, err := keys.ParsePrivate("yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(private)
	fmt.Println(private.Public())
	// Output:
	// (hidden)
	// HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=
}

// What is not a key is refused without being repeated: it may be half of one.
func ExampleParsePublic() {
	_, err := keys.ParsePublic("xTIBA5rboUvnH4htodjb6e697QjLERt1")
	fmt.Println(err)
	// Output: not a key (want 44 characters of base64, as wg genkey prints them)
}

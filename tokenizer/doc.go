// Package tokenizer turns values into what may be shown, compared or handed out in their place: a canonical form, a
// mask, a token. Its functions are pure: no I/O, no keys, randomness and time passed in.
//
// A value keeps the spelling its owner gave it; that is what is encrypted and given back. Beside it stands a
// canonical form, the same for every spelling of the same thing (`138 0013 8000`, `+86 138-0013-8000`), which
// feeds equality and the blind index and is never shown. The mask is what a caller without the right to the value
// sees. How the three are made depends on the field's Kind:
//
//	kind     canonical form                                        masked view
//	phone    E.164, with ";ext=" and digits for an extension       138****8000
//	name     NFKC, one kind of middle dot, case folded             张*   欧阳**   买买提·***   Z**** S**
//	address  NFKC, one kind of dash, no spaces beside hanzi        北京市海淀区********
//	email    lower case, domain in its ASCII form (RFC 5891)       z*******@example.com
//	text     NFC                                                   first and last character
//
// All kinds begin alike: the length limit, valid UTF-8, no control characters, Unicode normalisation, and removal
// of characters that have no shape of their own (zero-width, bidi, variation selectors). Canonical is idempotent:
// a canonical form is its own canonical form. NormaliserVersion is stored beside every index entry, since a
// change to any of these rules changes what is equal.
//
// A value that is refused yields an Invalid, which names kind and rule and never holds the value. Masks refuse
// nothing: what a kind cannot read is shown as asterisks alone.
//
// Tokens are random and say nothing of the value; see NewToken.
package tokenizer

package tokenizer

import "strings"

// segments are the three-digit beginnings of mainland mobile numbers that nyaruka/phonenumbers knows to be in use. A
// test holds them to the library, whose answer takes four microseconds; an update of the library that
// knows more makes it fail and names the difference.
const segments = " 130 131 132 133 134 135 136 137 138 139 145 147 150 151 152 153 155 156 157 158 159 162 165 166 167 " +
	"170 171 172 173 175 176 177 178 180 181 182 183 184 185 186 187 188 189 190 191 192 193 195 196 197 198 199 "

// knownSegment reports whether mobile, 11 digits, begins with a segment that is known to be in use. Of 174 only the
// first six five-digit blocks are.
func knownSegment(mobile string) bool {
	if mobile[:3] == "174" {
		return mobile[3] == '0' && mobile[4] <= '5'
	}
	return strings.Contains(segments, " "+mobile[:3]+" ")
}

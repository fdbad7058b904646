// Names of files with ranges and alternatives in braces, as bash and braceexpand write them.
#pragma once

#include <string>
#include <vector>

namespace cosub {

/// {A..B} and {A..B..STEP}, whole numbers that go up, all of the larger width where A or B begins with 0;
/// {a,b}; braces within {a,b}, and several after each other, the last counting fastest. Other braces ({},
/// {a}, one that is not closed) stand for themselves. DataError on what looks like a range and is none, and
/// on more than a million names.
std::vector<std::string> expand_braces(const std::string& text);

}  // namespace cosub

// Precompiled for the unit tests of modules without Asio, as GoogleTest's headers take longer to
// read than most tests.
#pragma once

#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

// Precompiled for the unit tests of modules with Asio.
#pragma once

#include "base/test_pch.h"
#include "io/pch.h"
